// What things mean, where the pointer or the focus is: shown at once, kept while it is pointed at, put away by Escape.

function showTip(owner) {
  const [tip, at] = [$("tip"), owner.getBoundingClientRect()];
  tip.textContent = owner.dataset.tip;
  tip.showPopover(); // above dialogs, too
  const own = tip.getBoundingClientRect();
  const left = Math.max(4, Math.min(at.left, document.documentElement.clientWidth - own.width - 4));
  const below = at.bottom + 4;
  const top = below + own.height <= innerHeight ? below : Math.max(4, at.top - own.height - 4);
  Object.assign(tip.style, { left: `${left}px`, top: `${top}px` });
}

function hideTip() {
  if ($("tip").matches(":popover-open")) $("tip").hidePopover();
}

function explained(target) {
  return target?.closest?.("[data-tip]");
}

function listenForTips() {
  document.addEventListener("pointerover", ({ target }) => explained(target) && showTip(explained(target)));
  document.addEventListener("pointerout", ({ target, relatedTarget }) => {
    if (!$("tip").contains(relatedTarget) && explained(relatedTarget) !== explained(target)) hideTip();
  });
  document.addEventListener("focusin", ({ target }) => explained(target) && target.matches(":focus-visible") && showTip(explained(target)));
  document.addEventListener("focusout", hideTip);
  document.addEventListener("keydown", ({ key }) => key === "Escape" && hideTip());
  document.addEventListener("scroll", hideTip, true);
}

"""Methods that start from another method's solution: `of` names it, `options` are its own. No torch: Snakemake imports it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pmqbench.errors import ConfigError
from pmqbench.options import build_options
from pmqbench.quantization.base import QUANTIZERS, CalibratedQuantizer, Sampling

# Named here, and not by the registry alone, so that their code counts as that of the methods on top.
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.rtn import Rtn

if TYPE_CHECKING:
    from torch import Tensor

    from pmqbench.families.base import Block, Group
    from pmqbench.quantization.problem import Problem, Solution
    from pmqbench.quantization.run import Run

METHODS: dict[str, type[Rtn | Gptq | Epmq]] = {"rtn": Rtn, "gptq": Gptq, "epmq": Epmq}


@dataclass(frozen=True, kw_only=True)
class OnTop(CalibratedQuantizer):
    """A method on top of another, which has the same grid, samples and precision, and otherwise the options it is given."""

    reserved: ClassVar[tuple[str, ...]] = ()
    """Options of `of` that the method on top decides."""

    of: Annotated[Literal["rtn", "gptq", "epmq"], Field(description="Method that solves each layer.")] = "gptq"
    options: Annotated[
        dict[str, Any] | None, Field(description="Options of `of` that are not this method's own; null: its defaults.")
    ] = None

    def check(self, where: str) -> None:
        """Raises ConfigError for options that `of` has not, or that stand elsewhere."""
        shared = {item.name for item in fields(CalibratedQuantizer)} - {"range_search"}
        for name in self.options or {}:
            if name in shared:
                what, remedy = f'"{name}" is an option of the method on top.', "Give it beside `of`."
                raise ConfigError(what, where=f"{where}.options.{name}", remedy=remedy)
            if name in self.reserved:
                raise ConfigError(f'"{name}" cannot be chosen here.', where=f"{where}.options.{name}", remedy="Remove it.")
        self.inner(f"{where}.options")

    def inner(self, where: str = "options") -> Rtn | Gptq | Epmq:
        """The method that `of` names."""
        own = {item.name for item in fields(METHODS[self.of])} & {item.name for item in fields(CalibratedQuantizer)}
        return build_options(QUANTIZERS, self.of, {name: getattr(self, name) for name in own} | (self.options or {}), where)

    @property
    def uses_base(self) -> bool:
        """Whether `of` does."""
        return self.inner().uses_base

    @property
    def uses_experts(self) -> bool:
        """Whether `of` does."""
        return METHODS[self.of].uses_experts

    def sampling(self) -> Sampling:
        """What `of` asks for; for one that sees no data second moments, which records and costs are taken from."""
        return self.inner().sampling() or Sampling(precision=self.forward_precision)

    def refit_norm(self, run: Run, block: Block, group: Group) -> dict[str, Tensor]:
        """As `of` does."""
        return self.inner().refit_norm(run, block, group)

    def solve(self, problem: Problem) -> Solution:
        """The solution of `of`."""
        return self.inner().solve(problem)

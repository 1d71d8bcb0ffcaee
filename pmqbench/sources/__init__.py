"""Where base models and experts come from: trained here, or local folders. One file each, registered in base.SOURCES."""

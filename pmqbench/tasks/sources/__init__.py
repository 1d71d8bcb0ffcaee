"""Data sources: where a task's examples come from. One file each, registered in base.DATA_SOURCES."""

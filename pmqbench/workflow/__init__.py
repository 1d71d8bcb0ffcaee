"""The workflow's layout as code: what the rules name, as tested functions of a suite and wildcards. No torch here."""

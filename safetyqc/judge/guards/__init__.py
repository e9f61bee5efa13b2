"""Guard models as judges: a YAML file says how each is asked and read; a self-check proves it before any verdict."""

"""From a taxonomy of risks to conversations: the plan (seeded, pure) and the author that writes it out."""

"""People in the loop: which conversations to label, and the page to label them on."""

"""People in the loop: which conversations to label, and the page to label them on.

`plan.py` says how many labels give which interval and draws them, `queues.py` what else is worth a person's look;
`desk.py` is what an annotator's keys do, `server.py` shows it on this machine alone.
"""

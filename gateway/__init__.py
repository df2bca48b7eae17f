"""The gateway: joins the reasoner, the speech generator and the codec into conversations. Read `turn.py` first."""

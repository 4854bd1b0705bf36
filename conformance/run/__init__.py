"""One run: the campaign, its scheduling over workers, the pytest items, live displays, replay."""

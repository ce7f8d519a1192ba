"""One's own questions: in a terminal, as JSON, or in a page of this machine."""

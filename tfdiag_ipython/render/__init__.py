"""One diagnosis, three views: text, static HTML, panel."""

"""HTTP pages and routes on the proxy's web application."""

"""HTTP: routes, parsing of requests, the table of error answers."""

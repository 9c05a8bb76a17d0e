"""The API's own terms: requests, answers, uploads and errors. Knows no HTTP framework."""

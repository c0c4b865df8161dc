"""The embedded servers, the supervisor and the command line."""

"""A Kommo that people can run: it sends realistic deliveries."""

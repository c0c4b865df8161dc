"""A Kommo that people can run: companies at work, the webhooks they send, and the truth about what they did.

A world (`world`, `records`) has happenings (`happenings`: `leads`, `people`, `tasks`, ...), which make changes: items
as Kommo words them (`items`, `fields`) with the facts they tell of (`facts`). `company` encodes changes as deliveries
(`generations`, `wire`); `sender` sends them by Kommo's rules (`postal`) and with what goes wrong on request
(`mischief`, `garbage`). `truth` keeps the facts and what of them arrived (`telling`), and says what the tables must
hold (`expected`).
"""

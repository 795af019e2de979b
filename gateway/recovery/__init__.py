"""The model may ask for what shortening left out: encrypted originals, and the tool that reads them.

Off unless a policy says `recovery: true`. The pipeline calls `gateway.recovery.rounds.Recovery`.
"""

"""How good an answer or a shortened text is: functions of strings and numbers."""

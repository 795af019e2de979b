"""terse.yaml in steps: YAML to plain data that knows its lines, entries checked, references resolved."""

"""Text to settings: YAML with line numbers, the schema, each value's check, who wins over whom."""

"""Text to settings: YAML with line numbers, the schema, each value's check, who wins, advice."""

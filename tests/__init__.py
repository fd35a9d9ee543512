"""Three rings of tests: unit, integration, acceptance."""

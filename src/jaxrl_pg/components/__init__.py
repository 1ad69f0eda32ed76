"""What agents are built of; nothing here names an agent."""

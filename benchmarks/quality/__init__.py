"""What is learned: rankings on recorded logs, exploration, policies."""

"""Turn a recommendation request into a slate: candidates, ranking, exploration, response."""

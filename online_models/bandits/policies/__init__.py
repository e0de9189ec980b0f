"""Rules that turn posteriors into choice probabilities, and the policy that draws by them."""

"""Stock engine for B2B sales platforms: reservations that never oversell."""

"""A sweep: many schedules over the same questions, quality against cost. Loads nothing by itself."""

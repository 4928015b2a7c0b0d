"""What this cortex believes about its fleet, and what follows: routing and provisioning."""

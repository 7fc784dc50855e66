"""How a run goes: steps, optimizers, schedules, and what of it is kept on the disk."""

"""What each machine of a proof is put through: its boots, upgrades, power cuts."""

"""The outbound engine, room by room, through its public doors."""

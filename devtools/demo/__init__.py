"""`./dev demo`: the scenes, the stage they are played on, and the words for them."""

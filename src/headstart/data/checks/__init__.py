"""What image files say of themselves: facts, copies, findings; no network is asked."""

"""What can be asked of the API: one module per resource, one function per request.

Each takes the call, its parameters and the id in the path, and returns the object to answer with,
or raises Refusal. Parameters are read before anything is done.
"""

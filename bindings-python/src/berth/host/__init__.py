"""The host's side: implement `Host`, call `serve`, and the protocol is taken care of."""

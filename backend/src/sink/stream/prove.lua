#!lua
-- Writes to the application's stream and leaves nothing, to see whether the write becomes durable.
--
-- KEYS: the stream
redis.call('XDEL', KEYS[1], redis.call('XADD', KEYS[1], '*', 'proof', ''))

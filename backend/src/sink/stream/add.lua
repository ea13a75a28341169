#!lua
-- Adds an outcome to the application's stream, unless the stream is full.
--
-- KEYS: the stream
-- ARGV: the maximum number of entries, the entry's fields and values
-- Returns: the entry's identifier, or nil if the stream is full
--
-- Invariant: no entry is removed. The application removes what it has handled.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return false
end
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))

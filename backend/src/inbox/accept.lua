-- Stores an event unless it is known.
--
-- KEYS: seen, inbox
-- ARGV: the body's hash, the retention in milliseconds, the event key, the body, when it was received
-- Returns: 0 stored, 1 known with the same body, 2 known with another body
--
-- Invariant: the seen key exists only if the event was added to the inbox. Hence the entry first: should adding it fail,
-- no seen key is left behind that would make the next delivery look like a duplicate of an event that is nowhere.
local known = redis.call('GET', KEYS[1])
if known then
  return known == ARGV[1] and 1 or 2
end
redis.call('XADD', KEYS[2], '*', 'key', ARGV[3], 'body', ARGV[4], 'received', ARGV[5])
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return 0

#!lua flags=allow-oom
-- Makes an event a dead letter.
--
-- KEYS: lease, inbox, attempts, dead, seen
-- ARGV: the fencing token, the entry, the error's code, its detail, how often it was tried, when it was buried
-- Returns: 1, or 0 where the lease is lost
--
-- Invariant: an event is in the inbox or among the dead letters until it is completed. Hence the dead letter first; and
-- an entry that is not in the inbox any more was buried before, by a call whose answer was lost. The seen key then names the
-- dead letter, `<hash> <entry>`, so that a redelivery brings it back (revive.lua). If that ends in between, the event is
-- buried once more and the seen key names the newer dead letter.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local entry = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
if entry then
  local fields = entry[2]
  for _, field in ipairs({ 'code', ARGV[3], 'detail', ARGV[4], 'attempts', ARGV[5], 'buried', ARGV[6] }) do
    fields[#fields + 1] = field
  end
  local letter = redis.call('XADD', KEYS[4], '*', unpack(fields))
  local known = redis.call('GET', KEYS[5])
  if known then
    redis.call('SET', KEYS[5], string.sub(known, 1, 16) .. ' ' .. letter, 'KEEPTTL')
  end
  redis.call('XDEL', KEYS[2], ARGV[2])
end
redis.call('HDEL', KEYS[3], ARGV[2])
return 1

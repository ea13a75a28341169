-- Moves a dead letter back to the inbox, behind what waits there.
--
-- KEYS: dead, inbox, seen
-- ARGV: the entry
-- Returns: 1 moved, 0 where it is no dead letter any more
--
-- Invariant: an event is a dead letter until it is in the inbox. Hence the entry first, then the seen key, which names the
-- dead letter no longer, and the dead letter last. If that ends in between, a replay or a redelivery brings the event back
-- once more, and it is handled twice with the same key.
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return 0
end
local kept, fields = { key = true, body = true, received = true, missed = true }, {}
for place = 1, #letter[2], 2 do
  if kept[letter[2][place]] then
    fields[#fields + 1] = letter[2][place]
    fields[#fields + 1] = letter[2][place + 1]
  end
end
redis.call('XADD', KEYS[2], '*', unpack(fields))
local known = redis.call('GET', KEYS[3])
if known and string.match(known, ' (.+)$') == ARGV[1] then
  redis.call('SET', KEYS[3], string.sub(known, 1, 16), 'KEEPTTL')
end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1

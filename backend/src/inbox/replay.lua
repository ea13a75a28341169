-- Moves a dead letter back to the inbox, behind what waits there.
--
-- KEYS: dead, inbox
-- ARGV: the entry
-- Returns: 1 moved, 0 where it is no dead letter any more
--
-- Invariant: an event is a dead letter until it is in the inbox. Hence the dead letter goes last.
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
redis.call('XDEL', KEYS[1], ARGV[1])
return 1

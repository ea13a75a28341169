-- Brings an event that is a dead letter back to its inbox, behind what waits there, since it was delivered again.
--
-- KEYS: seen, inbox, dead
-- ARGV: the body's hash, the retention in milliseconds, the event key, the body, when it was received, in milliseconds since 1970
-- Returns: 0 stored as new, as the dead letter has been dropped meanwhile; 1 known, as somebody else has brought it back;
--   4 brought back, with the body that was stored first
--
-- Invariant: an event is a dead letter until it is in the inbox. Hence the entry first, then the seen key, which names the
-- dead letter no longer, and the dead letter last. If that ends in between the event is brought back once more, and
-- handled twice with the same key. The event was counted in its case when it first came.
local known = redis.call('GET', KEYS[1])
local letter = known and string.match(known, ' (.+)$')
if known and not letter then
  return 1
end
local found = letter and redis.call('XRANGE', KEYS[3], letter, letter)[1]
local body, missed, hash, answer = ARGV[4], 0, ARGV[1], 0
if found then
  local fields = found[2]
  for place = 1, #fields, 2 do
    if fields[place] == 'body' then
      body = fields[place + 1]
    elseif fields[place] == 'missed' then
      missed = fields[place + 1]
    end
  end
  hash, answer = string.sub(known, 1, 16), 4
end
redis.call('XADD', KEYS[2], '*', 'key', ARGV[3], 'body', body, 'received', ARGV[5], 'missed', missed)
redis.call('SET', KEYS[1], hash, 'PX', ARGV[2])
if found then
  redis.call('XDEL', KEYS[3], letter)
end
return answer

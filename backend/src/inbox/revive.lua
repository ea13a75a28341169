-- Moves a dead letter back to the inbox, behind the events that are waiting there, because the
-- event was delivered again, and adds this to the history.
--
-- KEYS: seen, inbox, dead, history, history-marks
-- ARGV: the body's hash, the retention, the event key, the body, when the event was received; for a
--   traced event, as the 9th and 10th, the field `trace` of the entry; as the last one, the maximum
--   number of records in the history (0 if there is none). Times and durations are in milliseconds.
-- Returns: 0 stored as new, since the dead letter has expired; 1 already in the inbox, since
--   another delivery has revived it; 5 revived with the body that was stored first; 6 likewise, but
--   it was delivered with another body
--
-- Invariant: the event stays a dead letter until it is in the inbox. So the entry in the inbox is
-- added first, then the seen key stops naming the dead letter, and the dead letter is removed last.
-- If the script fails in between, the event is revived once more, and is handled twice with the
-- same idempotency key. The case does not count the event again. The event keeps its fields as in
-- replay.lua, except for the time at which it was received, which begins its retries anew. Its key
-- and that time are written even if an older backend stored it without them.
-- With record.lua.
local event_key, received, retention = ARGV[3], ARGV[5], ARGV[2]
local known = redis.call('GET', KEYS[1])
local letter = known and string.match(known, ' (.+)$')
if known and not letter then
  return 1
end
local found = letter and redis.call('XRANGE', KEYS[3], letter, letter)[1]
local hash, event, answer = ARGV[1], { 'key', event_key, 'received', received, unpack(ARGV, 9, #ARGV - 1) }, 0
if found then
  local is_dropped = { code = true, detail = true, attempts = true, failures = true, buried = true, key = true, received = true }
  -- The trace of this delivery takes the place of an earlier one.
  is_dropped.traced = #event > 4
  local fields = found[2]
  for place = 1, #fields, 2 do
    if not is_dropped[fields[place]] then
      event[#event + 1] = fields[place]
      event[#event + 1] = fields[place + 1]
    end
  end
  hash, answer = string.sub(known, 1, 16), 5
else
  for _, field in ipairs({ 'body', ARGV[4], 'missed', 0 }) do
    event[#event + 1] = field
  end
end
redis.call('XADD', KEYS[2], '*', unpack(event))
redis.call('SET', KEYS[1], hash, 'PX', retention)
if found then
  redis.call('XDEL', KEYS[3], letter)
  local limit = tonumber(ARGV[#ARGV])
  if limit > 0 then
    local revived = table.concat({ 'revived', received, 0, 0, 'sent', event_key }, ' ')
    pcall(record, KEYS[4], KEYS[5], limit, 1, revived)
  end
  if hash ~= ARGV[1] then
    return 6
  end
end
return answer

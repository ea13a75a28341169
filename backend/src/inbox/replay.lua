-- Moves a dead letter back to the inbox, behind the events that are waiting there, and adds this to
-- the history.
--
-- KEYS: dead, inbox, seen, history, history-marks
-- ARGV: the entry in the dead letters, the maximum number of records in the history (0 if
--   there is none)
-- Returns: 1 moved, 0 no longer a dead letter
--
-- Invariant: the event stays a dead letter until it is in the inbox. So the entry in the inbox is
-- added first, then the seen key stops naming the dead letter, and the dead letter is removed last.
-- If the script fails in between, a replay or a redelivery adds the event once more, and it is
-- handled twice with the same idempotency key. The event keeps all of its fields but those that
-- dead_letter.lua has added: a newer version may have given it fields that this one does not know.
-- With record.lua.
local entry = ARGV[1]
local letter = redis.call('XRANGE', KEYS[1], entry, entry)[1]
if not letter then
  return 0
end
local is_dropped, kept = { code = true, detail = true, attempts = true, failures = true, buried = true }, {}
local fields, value_of = letter[2], {}
for place = 1, #fields, 2 do
  value_of[fields[place]] = fields[place + 1]
  if not is_dropped[fields[place]] then
    kept[#kept + 1] = fields[place]
    kept[#kept + 1] = fields[place + 1]
  end
end
redis.call('XADD', KEYS[2], '*', unpack(kept))
local known = redis.call('GET', KEYS[3])
if known and string.match(known, ' (.+)$') == entry then
  redis.call('SET', KEYS[3], string.sub(known, 1, 16), 'KEEPTTL')
end
redis.call('XDEL', KEYS[1], entry)
if ARGV[2] ~= '0' then
  local origin = value_of.missed == '1' and 'backfilled' or 'sent'
  local event = { 'replayed', value_of.received or 0, value_of.attempts or 0, 0, origin, value_of.key or '' }
  pcall(record, KEYS[4], KEYS[5], tonumber(ARGV[2]), 1, table.concat(event, ' '))
end
return 1

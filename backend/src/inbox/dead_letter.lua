#!lua flags=allow-oom
-- Moves an event from the inbox to the dead letters, and adds this to the history.
--
-- KEYS: lease, inbox, attempts, dead, seen, history, history-marks
-- ARGV: the fencing token, the entry, the error's code, its detail, the number of attempts, the
--   time in milliseconds since 1970, the failures, the maximum number of records in the history;
--   unless there is no history, also the record
-- Returns: 1, or 0 if the lease is lost
--
-- Invariant: until it is completed, an event is in the inbox or among the dead letters. So the dead
-- letter is added first. An entry that is no longer in the inbox was moved by an earlier call,
-- whose answer was lost. After the dead letter is added, the seen key becomes
-- `<hash> <dead letter>`, so that a redelivery revives the event (revive.lua). If the script fails
-- in between, the next call adds another dead letter, which the seen key then names. The dead
-- letter has all fields of the event, also those that this version does not know. The field `trace`
-- becomes `traced`: if the event returns to the inbox, its attempts begin traces of their own.
-- With record.lua.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local entry, code, detail, attempts, now = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local failures, limit, event = ARGV[7], tonumber(ARGV[8]), ARGV[9]
local found = redis.call('XRANGE', KEYS[2], entry, entry)[1]
if found then
  local is_replaced = { code = true, detail = true, attempts = true, failures = true, buried = true }
  local letter_fields = {}
  local fields = found[2]
  for place = 1, #fields, 2 do
    if not is_replaced[fields[place]] then
      letter_fields[#letter_fields + 1] = fields[place] == 'trace' and 'traced' or fields[place]
      letter_fields[#letter_fields + 1] = fields[place + 1]
    end
  end
  for _, field in ipairs({ 'code', code, 'detail', detail, 'attempts', attempts, 'failures', failures, 'buried', now }) do
    letter_fields[#letter_fields + 1] = field
  end
  local letter = redis.call('XADD', KEYS[4], '*', unpack(letter_fields))
  local known = redis.call('GET', KEYS[5])
  if known then
    redis.call('SET', KEYS[5], string.sub(known, 1, 16) .. ' ' .. letter, 'KEEPTTL')
  end
  redis.call('XDEL', KEYS[2], entry)
  if event then
    pcall(record, KEYS[6], KEYS[7], limit, 1, event)
  end
end
redis.call('HDEL', KEYS[3], entry)
return 1

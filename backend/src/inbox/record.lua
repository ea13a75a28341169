-- Adds an entry of `number` records to the history, and drops the oldest ones. An error here must not
-- undo what the script has done, so it is called with pcall.
--
-- A mark is how many records there had been when an entry was added, and the entry. Marks are a
-- sixteenth of the limit apart. Each one replaces the mark that is as old as the limit allows, and
-- what is older than that one is dropped.
local function record(history, marks, limit, number, records)
  local MARKS = 16
  local entry = redis.call('XADD', history, '*', 'events', records)
  local added = redis.call('HINCRBY', marks, 'records', number)
  local apart = math.ceil(limit / MARKS)
  local latest = math.floor(added / apart)
  for mark = math.max(math.floor((added - number) / apart) + 1, latest - MARKS + 1), latest do
    local before, oldest = string.match(redis.call('HGET', marks, mark % MARKS) or '', '^(%d+) (.+)$')
    -- A mark that was set under another limit may be too young.
    if before and tonumber(before) <= added - limit then
      redis.call('XTRIM', history, 'MINID', oldest)
    end
    redis.call('HSET', marks, mark % MARKS, string.format('%.0f %s', added, entry))
  end
end

-- Windows of time, shared by the ledger's scripts: this file is put in front of each of them.
-- It says in Lua what windows.py says in Python. Numbers are whole; Lua's doubles are exact up to 2^53 micro-USD.

local SLICES = 60
local DAY = 86400
local LENGTH = { minute = 60, hour = 3600, day = DAY, week = 7 * DAY, month = 30 * DAY }
local NEVER = 10 * 366 * DAY

-- Redis's own clock in whole seconds. `given` replaces it in tests only.
local function clock(given)
  if given and given ~= '' then return tonumber(given) end
  return tonumber(redis.call('TIME')[1])
end

local function div(a, b) return math.floor(a / b) end

-- Months since year 0 of a day since 1970, and back (Hinnant, "chrono-compatible low-level date algorithms").
local function months_of(day)
  local shifted = day + 719468
  local era = div(shifted, 146097)
  local of_era = shifted - era * 146097
  local year = div(of_era - div(of_era, 1460) + div(of_era, 36524) - div(of_era, 146096), 365)
  local of_year = of_era - (365 * year + div(year, 4) - div(year, 100))
  return (year + era * 400) * 12 + div(5 * of_year + 2, 153) + 2
end

local function first_day(months)
  local year = div(months - 2, 12)
  local march_based = months - 2 - year * 12
  local era = div(year, 400)
  local of_era = year - era * 400
  return era * 146097 + of_era * 365 + div(of_era, 4) - div(of_era, 100) + div(153 * march_based + 2, 5) - 719468
end

-- The number of the calendar window (UTC) that holds `now`, and the second in which it ends.
local function calendar(period, now)
  if period == 'total' then return 0, now + NEVER end
  if period == 'month' then
    local months = months_of(div(now, DAY))
    return months, first_day(months + 1) * DAY
  end
  if period == 'week' then
    local week = div(div(now, DAY) + 3, 7)
    return week, ((week + 1) * 7 - 3) * DAY
  end
  local length = LENGTH[period]
  return div(now, length), (div(now, length) + 1) * length
end

local function step_of(length) return math.max(1, div(length, SLICES)) end

-- A sliding window is a hash: field 'a<slice>' and 'b<slice>' hold the two sums of one slice.
-- Returns both sums and {slice = {a, b}}; forgets what has left the window.
local function sliding(key, length, now)
  local current = div(now, step_of(length))
  local flat = redis.call('HGETALL', key)
  local slices, gone, a, b = {}, {}, 0, 0
  for i = 1, #flat, 2 do
    local kind, number = flat[i]:sub(1, 1), tonumber(flat[i]:sub(2))
    if number <= current - SLICES or number > current + SLICES then
      gone[#gone + 1] = flat[i]
    else
      local entry = slices[number] or { 0, 0 }
      local value = tonumber(flat[i + 1])
      if kind == 'a' then entry[1] = entry[1] + value; a = a + value
      else entry[2] = entry[2] + value; b = b + value end
      slices[number] = entry
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  return math.max(0, a), math.max(0, b), slices
end

-- Adds to both sums of one slice, unless it has left the window already.
local function slide(key, length, slice, a, b, now)
  if slice <= div(now, step_of(length)) - SLICES then return end
  if a ~= 0 then redis.call('HINCRBY', key, string.format('a%d', slice), string.format('%d', a)) end
  if b ~= 0 then redis.call('HINCRBY', key, string.format('b%d', slice), string.format('%d', b)) end
  redis.call('EXPIRE', key, string.format('%d', 2 * length + 60))
end

-- Seconds until slices worth `amount` of sum `which` (1 or 2) have left the window; at least 1.
local function wait_until_free(slices, length, which, amount, now)
  local numbers = {}
  for number in pairs(slices) do numbers[#numbers + 1] = number end
  table.sort(numbers)
  local freed = 0
  for _, number in ipairs(numbers) do
    freed = freed + slices[number][which]
    if freed >= amount then return math.max(1, (number + SLICES) * step_of(length) - now) end
  end
  return length
end

-- Seconds until sum `which` is zero.
local function empty_in(slices, length, which, now)
  local last = nil
  for number, entry in pairs(slices) do
    if entry[which] > 0 and (last == nil or number > last) then last = number end
  end
  if last == nil then return 0 end
  return math.max(0, (last + SLICES) * step_of(length) - now)
end

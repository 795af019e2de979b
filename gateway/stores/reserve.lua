-- Reserves for one request on all its accounts, or on none. The clock is Redis's.
-- KEYS[1] root; every other key is derived from it and shares its hash tag (accounts.lua)
-- ARGV[1] hold id
-- ARGV[2] JSON {u = micro-USD, t = tokens, i = tokens that are certain, s = lease in seconds, a = [accounts]}
-- ARGV[3] '' (tests: Unix seconds that replace Redis's clock)
-- Returns JSON {ok, s = [per account {id, rq = {limit, left, reset} or nil, tk = same, and fullness (accounts.lua)}],
--         f = [refusals {k = reason, a = account, l = limit, u = used, n = need, w = seconds or -1, p = period}]}

local root, id = KEYS[1], ARGV[1]
local now = clock(ARGV[3])
local hold = cjson.decode(ARGV[2])
local refusals = {}

local function refuse(reason, account, limit, used, need, wait, period)
  refusals[#refusals + 1] =
    { k = reason, a = account.id, l = limit, u = used, n = need, w = wait, p = period or 'minute' }
end

-- Everything that decides about one account, read once.
local function look_at(account)
  local view = { account = account, requests = 0, tokens = 0, slices = {}, spent = {} }
  view.running, view.held_u, view.held_t = held_of(root, account)
  if account.rpm or account.tpm then
    view.requests, view.tokens, view.slices = sliding(rate_key(root, account.id), 60, now)
  end
  for i, budget in ipairs(account.b or {}) do
    local u, t, slices = spent_of(root, account, budget, now)
    view.spent[i] = { u = u, t = t, slices = slices }
  end
  return view
end

local function check_rates(view)
  local account, requests, tokens = view.account, view.requests, view.tokens
  if account.conc and view.running + 1 > account.conc then
    refuse('concurrent', account, account.conc, view.running, 1, account.conc > 0 and 1 or -1)
  end
  if account.rpm and requests + 1 > account.rpm then
    local wait = account.rpm > 0 and wait_until_free(view.slices, 60, 1, requests + 1 - account.rpm, now) or -1
    refuse('requests', account, account.rpm, requests, 1, wait)
  end
  if account.tpm then
    -- A request whose longest answer alone would pass the limit runs when the minute is empty.
    local need = math.min(hold.t, account.tpm)
    if tokens + need > account.tpm then
      refuse('tokens', account, account.tpm, tokens, hold.t,
        wait_until_free(view.slices, 60, 2, tokens + need - account.tpm, now))
    end
    if hold.i > account.tpm then refuse('tokens', account, account.tpm, tokens, hold.i, -1) end
  end
end

local function check_budget(view, budget, sums)
  local function side(reason, which, limit, spent, held, need)
    if not limit or spent + held + need <= limit then return end
    local wait
    if need > limit then wait = -1
    elseif spent + need <= limit then wait = 1 -- only running requests stand in the way; any may end now
    elseif budget.sl then wait = wait_until_free(sums.slices, LENGTH[budget.per], which, spent + need - limit, now)
    else
      local _, ends = calendar(budget.per, now)
      wait = math.max(1, ends - now)
    end
    refuse(reason, view.account, limit, spent + held, need, wait, budget.per)
  end
  side('usd-budget', 1, budget.u, sums.u, view.held_u, hold.u)
  side('token-budget', 2, budget.t, sums.t, view.held_t, hold.t)
end

local function take(view)
  local account, key = view.account, main_key(root, view.account.id)
  redis.call('HINCRBY', key, 'c', '1')
  redis.call('HINCRBY', key, 'hu', whole(hold.u))
  redis.call('HINCRBY', key, 'ht', whole(hold.t))
  view.held_u, view.held_t = view.held_u + hold.u, view.held_t + hold.t
  if account.rpm or account.tpm then
    local requests, tokens = account.rpm and 1 or 0, account.tpm and hold.t or 0
    slide(rate_key(root, account.id), 60, now, requests, tokens, now)
    view.requests, view.tokens = view.requests + requests, view.tokens + tokens
    local slice = view.slices[now] or { 0, 0 }
    view.slices[now] = { slice[1] + requests, slice[2] + tokens }
  end
end

local function state_of(view)
  local account = view.account
  local state = fullness(account, view.spent, view.held_u, view.held_t)
  state.id = account.id
  if account.rpm then
    state.rq = { account.rpm, math.max(0, account.rpm - view.requests), empty_in(view.slices, 60, 1, now) }
  end
  if account.tpm then
    state.tk = { account.tpm, math.max(0, account.tpm - view.tokens), empty_in(view.slices, 60, 2, now) }
  end
  return state
end

reclaim(root, now)
local views = {}
for i, account in ipairs(hold.a) do views[i] = look_at(account) end
if redis.call('EXISTS', root .. ':h:' .. id) == 0 then
  for _, view in ipairs(views) do
    check_rates(view)
    for i, budget in ipairs(view.account.b or {}) do check_budget(view, budget, view.spent[i]) end
  end
  if #refusals == 0 then
    hold.n = now
    for _, view in ipairs(views) do take(view) end
    redis.call('SET', root .. ':h:' .. id, cjson.encode(hold))
    redis.call('ZADD', root .. ':leases', whole(now + hold.s), id)
  end
end

local states = {}
for i, view in ipairs(views) do states[i] = state_of(view) end
local answer = { ok = #refusals == 0, s = states }
if #refusals > 0 then answer.f = refusals end
return cjson.encode(answer)

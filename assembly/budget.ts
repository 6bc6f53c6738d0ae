// A budget: how many messages may still pass, so many per second and so many at once (a token bucket). It refills with time, which is looked
// at when one is taken out.
//
//    | messages f64 | at f64, milliseconds |

const AT: u32 = 8;

/** Makes a budget of `burst` messages, as full as it ever is. */
export function fillBudget(budget: u32, burst: f64): void {
  store<f64>(budget, burst);
  store<f64>(budget, 0, AT);
}

/** Takes a message out of a budget, if there is one in it. */
export function spend(budget: u32, rate: f64, burst: f64, now: f64): bool {
  const elapsed = max<f64>(0, now - load<f64>(budget, AT));
  const left = min<f64>(burst, load<f64>(budget) + (elapsed * rate) / 1000);
  store<f64>(budget, now, AT);
  store<f64>(budget, left < 1 ? left : left - 1);
  return left >= 1;
}

/** Puts messages back into a budget. It holds no more than at first all the same: that is looked at when the next is taken out. */
export function repay(budget: u32, count: u32): void {
  store<f64>(budget, load<f64>(budget) + <f64>count);
}

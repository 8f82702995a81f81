// REST, with the token that a gateway may ask for (arbitrex token create); it is kept for this tab only.

const TOKEN = "token";

export class Api {
  token = sessionStorage.getItem(TOKEN);
  #refused;

  /** `refused()` is called when the gateway wants a token, or does not take ours. */
  constructor(refused) {
    this.#refused = refused;
  }

  /** The answer to GET /v1/…; an error has the gateway's own words and its status. */
  async get(path, parameters = {}) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const response = await fetch(`v1/${path}?${new URLSearchParams(parameters)}`, { headers });
    if (response.status === 401) this.#refused();
    const body = await response.json();
    if (!response.ok) throw Object.assign(new Error(body.error.message), { status: response.status });
    return body;
  }

  /** Begin anew with another token. */
  use(token) {
    sessionStorage.setItem(TOKEN, token);
    location.reload();
  }
}

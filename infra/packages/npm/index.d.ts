export interface StartOptions {
  /** Further options of the command line. */
  options?: string[];
  /** The path of another binary. */
  program?: string;
  /** Longest time until the server is ready, in milliseconds. The default is 30,000. */
  timeout?: number;
}

export interface Duration {
  seconds?: number;
  minutes?: number;
  hours?: number;
  days?: number;
}

/** Starts a server with free ports and temporary state, and waits until it is ready. */
export function start(options?: StartOptions): Promise<Server>;

/** A running server. */
export interface Server extends AsyncDisposable {
  readonly connectionString: string;
  /** The connection string for plain HTTP, which needs `allowInsecureConnection` and no certificate. */
  readonly httpConnectionString: string;
  readonly endpoint: string;
  readonly httpEndpoint: string;
  /** The variables that the SDKs and their samples read, for a child process. */
  readonly env: Record<string, string>;
  /** The directory of the server's files. It is removed at the end. */
  readonly dataDir: string;
  /** The output of the server until now. */
  readonly log: string;
  /** Removes identities, assignments, journal and the clock's shift. With `keys`, replaces every key too. */
  reset(options?: { keys?: boolean }): Promise<void>;
  /** Creates the identities, people and assignments of a document. */
  seed(document: object): Promise<any>;
  /** Whether a token is active, and the reason if it is not. */
  inspect(token: string): Promise<{ active: boolean; reason?: string }>;
  state(): Promise<any>;
  /** Restores a snapshot. Every token that was issued before is revoked. */
  restore(state: object): Promise<void>;
  clock(): Promise<{ now: string; offsetSeconds: number; frozen: boolean }>;
  /** Moves the clock of the tokens. Dates of requests and TLS follow the real time. */
  advance(duration: Duration): Promise<unknown>;
  /** Stops the clock of the tokens, now or at a time. */
  freeze(at?: string | number | Date): Promise<unknown>;
  realTime(): Promise<unknown>;
  /** The audit lines of the last 1,000 requests, the oldest first. */
  requests(filters?: Record<string, string>): Promise<any[]>;
  /** Sends another call of the control API. The path is relative to `/_local/v1/`. */
  control(method: string, path: string, body?: object): Promise<any>;
  /** Stops the server and removes its state. */
  stop(): Promise<void>;
}

/** Longer tokens are runs of one character, which shorter merges reach; each of their cuts would be looked at. */
const maxPieceLength = 128;

/**
 * The merges that a SentencePiece BPE model implies. It has none: two neighbours join whenever the result is a token, the one with
 * the highest score first. So each token stands for every cut into two tokens, in the order of scores; a list of merges then gives
 * the same tokens. Where scores are equal, the longer left side comes first, then the longer right one, as in transformers'
 * converter. `isMerged` says which ids take part.
 */
export function mergesOfScores(
  tokens: readonly string[],
  scores: ArrayLike<number>,
  isMerged: (id: number) => boolean,
): [string, string][] {
  const cuts = findCuts(tokens, isMerged);
  const byScore = [...cuts.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b);
  const merges: [string, string][] = [];
  for (let begin = 0, end = 1; begin < byScore.length; begin = end++) {
    while (end < byScore.length && scores[byScore[end]!] === scores[byScore[begin]!]) end++;
    const equal = byScore.slice(begin, end).flatMap((id) => cuts.get(id)!);
    equal.sort(([a, b], [c, d]) => c.length - a.length || d.length - b.length);
    for (const merge of equal) merges.push(merge);
  }
  return merges;
}

/**
 * Every cut of a token into two. In the order of the alphabet the tokens that another begins with stand before it, on a stack, so
 * that only these are tried as left sides.
 */
function findCuts(tokens: readonly string[], isMerged: (id: number) => boolean): Map<number, [string, string][]> {
  const known = new Set<string>();
  const ids: number[] = [];
  for (const [id, token] of tokens.entries()) {
    if (token.length > maxPieceLength || !isMerged(id)) continue;
    known.add(token);
    ids.push(id);
  }
  ids.sort((a, b) => (tokens[a]! < tokens[b]! ? -1 : 1));
  const cuts = new Map<number, [string, string][]>();
  const prefixes: string[] = [];
  for (const id of ids) {
    const token = tokens[id]!;
    while (prefixes.length > 0 && !token.startsWith(prefixes.at(-1)!)) prefixes.pop();
    const found: [string, string][] = [];
    for (const left of prefixes) {
      const right = token.slice(left.length);
      if (known.has(right)) found.push([left, right]);
    }
    if (found.length > 0) cuts.set(id, found);
    prefixes.push(token);
  }
  return cuts;
}

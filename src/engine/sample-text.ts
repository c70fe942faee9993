/** What models are compared on when no text is given: prose, dialogue, arithmetic, code and other languages, some 700 tokens. */
export const sampleText = `The lighthouse keeper counted the ships every evening. On Monday there were seven, on Tuesday nine, and on
Wednesday the fog was so thick that he counted none at all. "They are still out there," he told his daughter, who was
learning to read the charts. "A ship does not stop being a ship because you cannot see it." She wrote that down.

Water boils at 100 degrees Celsius at sea level, and at a lower temperature on a mountain, because the pressure of the air
is lower there. On the summit of Mount Everest it boils at about 71 degrees, which is too cool to cook an egg quickly.

Q: A train leaves at 9:40 and arrives at 12:15. How long is the journey?
A: From 9:40 to 12:00 is 2 hours and 20 minutes; 15 minutes more make 2 hours and 35 minutes.

Q: What is 17 times 23?
A: 17 times 20 is 340, and 17 times 3 is 51, so the answer is 391.

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a

Ingredients: 250 g flour, 2 eggs, half a litre of milk, a pinch of salt. Mix the flour with the eggs, add the milk little by
little, and let the batter rest for half an hour. Bake the pancakes in a hot pan until both sides are golden.

Der Zug nach Hamburg hat heute zwanzig Minuten Verspätung. La bibliothèque est fermée le lundi. El perro duerme debajo de la
mesa. 今日は天気がいいですね。

The capital of France is Paris, the capital of Japan is Tokyo, and the capital of Canada is not Toronto but Ottawa. In 1969 two
people walked on the Moon while a third stayed in orbit; they brought back 21.5 kilograms of rock and dust.

{"name": "sensor-12", "readings": [20.1, 20.4, 19.8], "unit": "celsius", "ok": true}

Dear Ms. Alvarez, thank you for your letter of 3 March. We are sorry that the parcel arrived damaged, and we will send you a
new one this week. You need not return the old one. Yours sincerely, the customer service team.

When the storm was over, the keeper and his daughter went down to the beach. There were eleven ships in the bay, more than they
had ever seen. "Where did they come from?" she asked. He smiled and handed her the logbook. "You tell me," he said.
`;
